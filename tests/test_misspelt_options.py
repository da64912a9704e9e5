"""A misspelt option, choice or data set is one sentence that says what there is."""

import pytest

import all as everything
import claims
import consequences
import end_to_end_rule
import explain
import gas_sensor
import mnist_cnn
import mnist_rates
import other_networks
import probe
import publish
import report
from datasets import gas_archive, images
from datasets import gas_sensor as gas_data
from datasets.sources import DataError
from running.options import Parser

SCRIPTS = [
    *(everything, claims, consequences, end_to_end_rule, explain, gas_sensor, mnist_cnn),
    *(mnist_rates, other_networks, probe, publish, report),
]


def misspelt(name):
    """The name with a letter too many in the middle."""
    middle = len(name) // 2
    return f"{name[:middle]}q{name[middle:]}"


def options_of(script):
    """The options of a script's command line, as its parser has them."""
    found = []

    def keep(parser, arguments=None, namespace=None):
        found.extend(action for action in parser._actions if action.option_strings)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Parser, "parse_args", keep)
        script.parse([])
    return found


def sentence(script, arguments, capsys):
    """What a script says of a wrong command line, in a line."""
    with pytest.raises(SystemExit) as caught:
        script.parse(arguments)
    assert caught.value.code == 2
    text = capsys.readouterr().err.rpartition(": error: ")[2]
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_misspelt_options_and_choices(script, capsys):
    for option in options_of(script):
        name = option.option_strings[-1]
        assert f"did you mean {name}?" in sentence(script, [misspelt(name)], capsys)
        for choice in option.choices or ():
            text = sentence(script, [name, misspelt(choice)], capsys)
            assert name in text and all(f"{other}" in text for other in option.choices)
    assert "--help lists what there is" in sentence(script, ["--zzz"], capsys)


@pytest.mark.parametrize(
    ("load", "there_is"),
    [
        (images.load_images, images.IMAGES),
        (gas_data.load_ethanol, gas_data.DATASETS),
        (lambda name: gas_data.load_ethanol(target=name), gas_data.TARGETS),
        (gas_data.load_gas, gas_archive.GASES),
    ],
)
def test_misspelt_data(load, there_is):
    with pytest.raises(DataError, match=r"must be one of .* Received: \w+='mnsit'$") as caught:
        load("mnsit")
    assert all(name in str(caught.value) for name in there_is)
