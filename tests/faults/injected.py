"""The faults: each is thrown at a subject a number of times, and judged by what is left.

Nothing may be lost and nothing silently wrong: after the fault, the same command must come to the
contents of an undisturbed run, or have ended in one sentence that says what to do.
"""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from faults import servers
from faults.contents import contents, lost_lines, recorded
from faults.processes import TRACEBACK, Run
from faults.subjects import load_only, on_its_own

KILLS_IN_A_ROW = 6  # after which a run is let to its end
PAGE = 4096  # bytes, of a disk in memory
ROOM = "1g"  # of a disk that is not full
ARCHIVES = {
    "mnist": [
        f"{split}-{what}-ubyte.gz"
        for split in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    ],
    "gas_sensor": ["gas_sensor_array_drift.zip"],
}


@dataclasses.dataclass
class Cell:
    """What became of one kind of fault: how often it was thrown, losses, and what was said.

    Attributes:
        fault: its name.
        target: what was damaged; empty where the fault says it.
        trials: how often it was thrown.
        losses: what went wrong, in words, for each trial in which something did.
        sentences: how many trials ended in one sentence, the others in the right result at once.
        said: an example of what was said.
    """

    fault: str
    target: str = ""
    trials: int = 0
    losses: list = dataclasses.field(default_factory=list)
    sentences: int = 0
    said: str = ""


class Laboratory:
    """A subject, its undisturbed run, and a folder to work in."""

    def __init__(self, subject, scratch, seed, trials, prepared):
        self.subject = subject
        self.scratch = scratch
        self.random = random.Random(f"{seed} {subject.name}")
        self.trials = trials
        self.prepared = prepared  # folder of prepared data, or None
        self.count = 0
        self.snapshots = []  # folders that a kill has left
        folder = self.fresh()
        self.undisturbed = self.run(folder)
        if self.undisturbed.status:
            raise RuntimeError(f"{subject.name}: {self.undisturbed.errors}")
        self.finished = folder
        self.wanted = contents(folder)
        again = self.fresh()
        self.run(again)
        if contents(again) != self.wanted:
            raise RuntimeError(f"{subject.name}: two undisturbed runs differ")

    def fresh(self, copy_of=None):
        """A new output folder."""
        self.count += 1
        folder = self.scratch / f"out{self.count}"
        if copy_of:
            shutil.copytree(copy_of, folder)
        else:
            folder.mkdir()
            if self.subject.prepare:
                self.subject.prepare(folder)
        return folder

    def start(self, folder, arguments=None, changes=(), kill_at=None):
        self.count += 1
        scratch = self.scratch / f"logs{self.count}"
        scratch.mkdir()
        return Run(lambda: self.subject.call(folder, arguments, changes), scratch, folder, kill_at)

    def run(self, folder, arguments=None, changes=(), kill_at=None, kill_after=None):
        """Run the command in a folder, to its end or to a kill."""
        return self.start(folder, arguments, changes, kill_at).ends(kill_after)

    def killed_somewhere(self, folder, arguments=None, changes=()):
        """The same, killed at a random time or file operation of the undisturbed run."""
        if self.random.random() < 0.5:
            after = self.random.uniform(0, self.undisturbed.seconds)
            return self.run(folder, arguments, changes, kill_after=after)
        operation = self.random.randint(1, max(1, self.undisturbed.operations))
        return self.run(folder, arguments, changes, kill_at=operation)

    def check(self, cell, folder, ended, wanted=None, what=""):
        """Count a loss unless a run succeeded with the contents that are wanted."""
        if ended.status != 0 or TRACEBACK in ended.errors:
            cell.losses.append(f"{what} it ended with {ended.status}: {ended.errors[-1500:]}")
        elif (found := contents(folder)) != (self.wanted if wanted is None else wanted):
            wanted = self.wanted if wanted is None else wanted
            names = sorted(n for n in wanted | found if wanted.get(n) != found.get(n))
            cell.losses.append(f"{what} other contents of {names}: {ended.errors[-500:]}")
        else:
            return True
        return False

    def heard(self, cell, ended, folder):
        """Count a sentence, and keep it as the example; a loss if there was something else."""
        name = self.subject.name
        sentence = ended.sentence(name)
        if not ended.sound(name):
            cell.losses.append(f"no sentence, status {ended.status}: {ended.errors[-1500:]}")
            return None
        cell.sentences += sentence is not None
        notes = [line for line in ended.errors.splitlines() if "damaged" in line]
        said = sentence or (notes[0] if notes else "")
        if said and (sentence or not cell.said):
            cell.said = said.replace(f"{folder}/", "").replace(str(folder), "runs")
            cell.said = cell.said.replace(f"{self.scratch}/", "")
        return sentence


def kill(lab, kills):
    """SIGKILL at random times and at random file operations, again and again until it finishes."""
    cell, folder, in_a_row = Cell("kill"), lab.fresh(), 0
    while cell.trials < kills or in_a_row:
        if in_a_row < KILLS_IN_A_ROW and cell.trials < kills:
            ended = lab.killed_somewhere(folder)
        else:
            ended = lab.run(folder)
        if ended.killed:
            cell.trials, in_a_row = cell.trials + 1, in_a_row + 1
            if len(lab.snapshots) < 12:
                lab.snapshots.append(lab.fresh(copy_of=folder))
            continue
        lab.check(cell, folder, ended, what=f"after {in_a_row} kills")
        shutil.rmtree(folder)
        folder, in_a_row = lab.fresh(), 0
    yield cell


def half_done(lab, pattern="*"):
    """Folders that kills have left, with files of a pattern; none if no kill leaves any."""

    def found():
        return [folder for folder in lab.snapshots if any(folder.rglob(pattern))]

    for _ in range(8):
        if len(found()) >= 2:
            break
        folder, last = lab.fresh(), lab.undisturbed.operations
        if lab.run(folder, kill_at=lab.random.randint(last // 3, last)).killed:
            lab.snapshots.append(folder)
    return found()


@contextlib.contextmanager
def disk(folder, size):
    """A disk of its own mounted at a folder, with what is in the folder."""
    content = folder.with_name(f"{folder.name}-before")
    folder.rename(content)
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder)
    try:
        shutil.copytree(content, folder, dirs_exist_ok=True)
        remount(folder, f"size={size}")
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder, options):
    """Change a mounted disk."""
    _mount("-o", f"remount,{options}", folder)


def _mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def used(folder):
    """Pages of a disk that a folder's files take."""
    return sum(-(-path.stat().st_size // PAGE) for path in folder.rglob("*") if path.is_file())


def full_disk(lab):
    """Room for a random share of what the run writes; then room for all, and the same command."""
    cell = Cell("disk")
    for trial in range(lab.trials):
        begun = half_done(lab)
        folder = lab.fresh(copy_of=lab.random.choice(begun) if trial % 2 and begun else None)
        needed = max(used(lab.finished) - used(folder), 1)
        filler = folder / "filler"  # a disk has a page at least
        filler.write_bytes(bytes(PAGE))
        with disk(folder, PAGE * (used(folder) + lab.random.randrange(needed))):
            before = recorded(folder)
            ended = lab.run(folder)
            cell.trials += 1
            lab.heard(cell, ended, folder)
            if lost_lines(before, recorded(folder)):
                cell.losses.append(f"lines of records are lost: {ended.errors[-500:]}")
            remount(folder, f"size={ROOM}")
            filler.unlink()
            lab.check(cell, folder, lab.run(folder), what="with room again")
    yield cell


def read_only(lab):
    """An output folder on a disk that is mounted read-only: empty, half done, finished."""
    cell = Cell("read-only")
    begun = half_done(lab)
    for start in (None, *lab.random.sample(begun, min(2, len(begun))), lab.finished):
        folder = lab.fresh(copy_of=start)
        with disk(folder, ROOM):
            before = contents(folder)
            remount(folder, "ro")
            ended = lab.run(folder)
            cell.trials += 1
            if lab.heard(cell, ended, folder) is None and start != lab.finished:
                cell.losses.append("no word of it")
            if contents(folder) != before:
                cell.losses.append("something was changed")
            remount(folder, "rw")
            lab.check(cell, folder, lab.run(folder), what="writable again")
    yield cell


def damage(path, fault, rng):
    """Cut a file off at a random place, or flip one bit at a random place; where, in words."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if fault == "truncate":
        del content[place:]
    else:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"{path.name} at byte {place} of {path.stat().st_size}"


KEPT = {"records": ("*.jsonl", "*.jsonl.gz"), "checkpoints": ("sweep*.npz", "epoch-*.npz")}


def damaged(lab, fault):
    """Records and checkpoints damaged at random places; then archives and prepared data."""
    for target, patterns in KEPT.items():
        if target in lab.subject.why_not:
            continue
        cell = Cell(fault, target)
        published = lab.subject.prepare is not None
        starts = [f for pattern in patterns for f in half_done(lab, pattern)]
        starts += [lab.finished] * (target == "records") * max(1, len(starts))
        for _ in range(lab.trials if starts else 0):
            folder = lab.fresh(copy_of=lab.random.choice(starts))
            paths = sorted(p for pattern in patterns for p in folder.rglob(pattern))
            paths = [path for path in paths if path.stat().st_size and "partial" not in path.name]
            if not paths:
                continue
            path = lab.random.choice(paths)
            intact = path.read_bytes()
            what = damage(path, fault, lab.random)
            cell.trials += 1
            ended = lab.run(folder)
            sentence = lab.heard(cell, ended, folder)
            if sentence is not None:
                if path.name not in sentence:
                    cell.losses.append(f"{what} is not named: {sentence}")
                path.write_bytes(intact) if published else path.unlink()
                ended = lab.run(folder)
            lab.check(cell, folder, ended, what=what)
        yield cell
    if lab.subject.data:
        yield from damaged_data(lab, fault)
    if lab.subject.name in ("publish.py", "report.py"):
        yield from damaged_assets(lab, fault)


def damaged_assets(lab, fault):
    """Figures and summaries that are read, or drawn anew."""
    cell = Cell(fault, "figures and summaries")
    for _ in range(lab.trials):
        folder = lab.fresh(copy_of=lab.finished)
        paths = [p for p in (folder / "assets").iterdir() if p.suffix in (".png", ".json")]
        path = lab.random.choice(sorted(paths))
        intact = path.read_bytes()
        what = damage(path, fault, lab.random)
        cell.trials += 1
        ended = lab.run(folder)
        path.write_bytes(intact)  # of what is not read, the page is what it was all the same
        if lab.heard(cell, ended, folder) is not None:
            ended = lab.run(folder)
        lab.check(cell, folder, ended, what=what)
    yield cell


def load(lab, folder, *options, changes=()):
    """Run a script until it has loaded its data; how it ended, and what was loaded."""
    folder.mkdir(exist_ok=True)
    word = folder / "loaded.json"
    word.unlink(missing_ok=True)
    ended = lab.run(folder, options, (on_its_own, load_only, *changes))
    return ended, json.loads(word.read_text()) if word.exists() else None


def damaged_data(lab, fault):
    """Archives and prepared data damaged at random places."""
    data, archives = lab.subject.data, Path(os.environ["KERAS_OVERPARAM_ARCHIVES"])
    wanted = load(lab, lab.fresh(), "--dataset", data, "--data-dir", lab.prepared)[1]
    for target in ("archives", "prepared data"):
        cell = Cell(fault, target)
        for _ in range(lab.trials):
            folder = lab.fresh()
            copies, prepared = folder / "copies", folder / "prepared"
            if target == "archives":
                copies.mkdir()
                for name in ARCHIVES[data]:
                    shutil.copyfile(archives / name, copies / name)
                path = copies / lab.random.choice(ARCHIVES[data])
                options = ("--archives", copies)
            else:
                shutil.copytree(Path(lab.prepared) / data, prepared / data)
                path = _chosen(lab, [p for p in prepared.rglob("*") if p.is_file()])
                options = ()
            what = damage(path, fault, lab.random)
            cell.trials += 1
            options = ("--dataset", data, "--data-dir", prepared, *options)
            ended, loaded = load(lab, folder, *map(str, options))
            if lab.heard(cell, ended, folder) is None and loaded != wanted:
                cell.losses.append(f"{what} gave {loaded}")
            shutil.rmtree(folder)
        yield cell


def _chosen(lab, paths):
    """One of the files, half of the time a large one."""
    paths = sorted(paths, key=lambda path: path.stat().st_size)
    return lab.random.choice(lab.random.choice((paths, paths[-2:])))


def network(lab):
    """A connection that is lost in the middle of a download, or refused."""
    cell, data = Cell("network"), lab.subject.data
    for loss in servers.LOSSES:
        for dataset in (data, "auto"):
            folder = lab.fresh()
            prepared = folder / "prepared"
            with servers.losing(os.environ["KERAS_OVERPARAM_ARCHIVES"], loss) as address:
                changes = (servers.download_from(address),)
                options = ("--dataset", dataset, "--data-dir", str(prepared))
                ended, loaded = load(lab, folder, *options, changes=changes)
            cell.trials += 1
            sentence = lab.heard(cell, ended, folder)
            if dataset == data and sentence is None:
                cell.losses.append(f"{loss}: no word of it, {loaded}")
            if dataset == "auto" and not (loaded and loaded["notice"]):
                cell.losses.append(f"{loss}: no notice of other data, {loaded}")
            left = [path.name for path in prepared.rglob("*") if path.is_file()]
            if left:
                cell.losses.append(f"{loss}: files are left: {left}")
    yield cell


def divergence(lab):
    """Parameters that become infinite: a result, the same after kills, and not done again."""
    cell, subject = Cell("divergence"), lab.subject
    arguments, changes = subject.diverging, (subject.diverge,)
    folder = lab.fresh()
    ended = lab.run(folder, arguments, changes)
    cell.trials += 1
    lab.heard(cell, ended, folder)
    try:
        wanted = contents(folder)
    except ValueError as error:
        cell.losses.append(str(error))
        yield cell
        return
    lab.check(cell, folder, ended, wanted, "diverging")
    words = ended.output.lower()
    if not any(word in words for word in ("diverged", "inf", "nan", "never")):
        cell.losses.append(f"no word of it: {ended.output}")
    said = [line for line in ended.output.splitlines() if "diverged" in line or "inf" in line]
    cell.said = said[0].strip() if said else ""
    for _ in range(2):
        folder = lab.fresh()
        for _ in range(2):
            after = lab.random.uniform(0, ended.seconds)
            cell.trials += lab.run(folder, arguments, changes, kill_after=after).killed
        lab.check(cell, folder, lab.run(folder, arguments, changes), wanted, "killed")
    lab.check(cell, folder, lab.run(folder, arguments, changes), wanted, "again")
    yield cell


def two_copies(lab):
    """The same command twice at once in one folder."""
    cell = Cell("two-copies")
    for trial in range(lab.trials):
        folder = lab.fresh()
        one = lab.start(folder)
        if trial:  # the first time, at the same moment
            time.sleep(lab.random.uniform(0, lab.undisturbed.seconds / 2))
        other = lab.start(folder)
        both = [other.ends(), one.ends()]
        cell.trials += 1
        for ended in both:
            lab.heard(cell, ended, folder)
        if all(ended.status for ended in both):
            cell.losses.append(f"neither works: {[ended.errors[-300:] for ended in both]}")
        lab.check(cell, folder, lab.run(folder), what="after two at once")
    yield cell


FAULTS = {
    "kill": kill,
    "disk": full_disk,
    "read-only": read_only,
    "truncate": lambda lab: damaged(lab, "truncate"),
    "bit-flip": lambda lab: damaged(lab, "bit-flip"),
    "divergence": divergence,
    "network": network,
    "two-copies": two_copies,
}
