"""Train one network, or find its record, on the way to a command's results."""

from experiments.mnist import results
from experiments.mnist.training import train


def common_settings(options, data):
    """What all runs of a command have in common: settings by name.

    Args:
        options: those of the command line.
        data: `datasets.ImageData`.
    """
    return {
        "epochs": options.epochs,
        "dataset": data.name,
        "jit": options.jit,
        "mixed_precision": options.mixed_precision,
    }


def run(settings, data, output, again=False, distribution=None):
    """Train one network, unless its finished run is on record; the result, which the chief has."""
    folder = output / settings.run_name
    chief = distribution is None or distribution.is_chief
    where = folder if chief else f"worker {distribution.worker} of {distribution.workers}"
    print(f"{settings.model_name}, seed {settings.seed}: {where}")
    outcome = train(settings, data, folder, again, distribution).outcome()
    if not chief:
        return None
    print(f"  {outcome['status']}, test error {outcome['test_error_percent']:.2f} %")
    return results.load(folder, type(settings))
