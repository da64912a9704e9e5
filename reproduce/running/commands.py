"""What every script does around its runs: get ready, train or find the record, end in words."""

import contextlib
import sys

from datasets.sources import DataError
from running import records
from running.chatter import import_keras

INTERRUPTED = 130  # the exit status that shells give to what Ctrl-C ended


@contextlib.contextmanager
def command(name, resumes_after="epoch"):
    """A command line whose problems that the user can mend end in one sentence; it has Keras.

    Args:
        name: of the script.
        resumes_after: what an interrupted one does not repeat, in words; None where it starts anew.
    """
    try:
        import_keras()
        from running import machine

        machine.prepare()
        yield
    except (DataError, records.OutputError) as error:
        sys.exit(f"{name}: error: {error}")
    except OSError as error:
        if error.errno not in records.UNWRITABLE:
            raise
        sys.exit(f"{name}: error: {records.unwritable(error)}")
    except KeyboardInterrupt:
        end_interrupted(resumes_after)


def end_interrupted(resumes_after=None):
    """End the process, and say what the same command would do: go on after something, or not."""
    then = f"goes on after the last finished {resumes_after}" if resumes_after else "starts anew"
    print(f"\nInterrupted. The same command {then}.", file=sys.stderr)
    sys.exit(INTERRUPTED)


def distribute(options):
    """The `strategies.Distribution` that the options ask for, with the device chosen."""
    from running import machine, strategies  # and Keras, which a wrong option need not wait for

    machine.check_publishable(options)
    strategy = getattr(options, "strategy", "none")
    machine.choose_device(options.device, strategy)
    return strategies.create(strategy, options.device)


def prepare(options, load, distribution=None):
    """Output folder and data that the options ask for, with the device chosen.

    Args:
        options: those of the command line.
        load: function of the data set's name, the folder of prepared data and that of archives.
        distribution: what `distribute` returned, of which it is decided who writes to the folder.
    """
    distribution = distribution or distribute(options)
    output = records.make_folder(distribution.folder(options.output))
    data = load(options.dataset, options.data_dir, options.archives)
    print(f"Data: {data.source}")
    if data.notice:
        print(f"\n{'!' * 80}\n{data.notice}\n{'!' * 80}\n", file=sys.stderr)
    return output, data


def recorded(options, datasets, settings_of):
    """Settings of the runs of a command line that are on record, for --plot-only.

    Args:
        options: those of the command line.
        datasets: names that "auto" stands for, in order.
        settings_of: function of the options and a name, that returns the settings of the runs.
    """
    for name in datasets if options.dataset == "auto" else (options.dataset,):
        found = settings_of(options, name)
        if all(records.Record(folder_of(options, one)).outcome() for one in found):
            return found
    raise records.OutputError(
        f"{options.output} holds no finished runs of these settings; leave out --plot-only to run "
        "them."
    )


def folder_of(options, settings):
    """Folder of a run."""
    return records.folder_of(options.output, settings)
