"""Training steps of a linear map on PyTorch: its plain layer, and that of a peer.

The peer is github.com/minyoungg/overparam, which is not on PyPI. Its layer has a bias after every
matrix unless none at all; the hidden ones start at zero here.

PyTorch has a process of its own, since its compiler and TensorFlow cannot share one: loading both
ends in a crash. That process waits while others have their turns.
"""

import importlib.util
import json
import subprocess
import sys

import numpy as np
from linear_task import MOMENTUM, Task
from turns import steady

LINEAR, OVERPARAM = "torch Linear", "OverparamLinear"
PACKAGES = {LINEAR: ["torch"], OVERPARAM: ["torch", "overparam"]}


class Torch:
    """The process, seen from outside: a context in which its trainings are jobs.

    `layers` are the names of those that are installed.

    Args:
        gpu: whether to compute on a GPU.
        tf32: whether float32 products may be as precise there as TensorFlow's are by default.
    """

    def __init__(self, gpu=False, tf32=False):
        self.machine = json.dumps({"gpu": gpu, "tf32": tf32})
        self.process = None
        found = {name: all(map(importlib.util.find_spec, PACKAGES[name])) for name in PACKAGES}
        self.layers = [name for name in PACKAGES if found[name]]
        for name in PACKAGES.keys() - self.layers:
            print(f"{' or '.join(PACKAGES[name])} is missing: no rows for {name}.")

    def __enter__(self):
        if self.layers:
            self.process = subprocess.Popen(
                [sys.executable, __file__, self.machine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.communicate()

    def ask(self, what, name, **given):
        """What the process answers."""
        print(json.dumps({"what": what, "name": name} | given), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"PyTorch's process ended when asked for {what} of {name}.")
        return json.loads(answer)

    def job(self, name, task, **turn):
        """A job for `take_turns`, as `turns.steady` makes it."""
        self.ask("prepare", name, task=vars(task), turn=turn)
        return lambda: self.ask("turn", name)

    def trained(self, name, task, steps):
        """The matrices after some steps."""
        return [np.array(m) for m in self.ask("trained", name, task=vars(task), steps=steps)]


class TorchTraining:
    """A layer, trained step by step as PyTorch does it."""

    def __init__(self, name, task, gpu):
        import torch

        device, dtype = "cuda" if gpu else "cpu", getattr(torch, task.dtype)
        self.layer = make_layer(name, task).to(device, dtype)
        self.matrices = [p for p in self.layer.parameters() if p.dim() == 2]
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.zero_()
            starts = (task.plain if name == LINEAR else task).matrices()
            for matrix, start in zip(self.matrices, starts, strict=True):
                matrix.copy_(torch.from_numpy(start.T))
        self.optimizer = torch.optim.SGD(self.layer.parameters(), task.rate, momentum=MOMENTUM)
        self.x = torch.from_numpy(task.inputs()).to(device, dtype).requires_grad_()

    def step(self):
        """Take a step; the loss before it."""
        self.optimizer.zero_grad()
        self.x.grad = None
        loss = self.layer(self.x).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def values(self):
        """The matrices as Keras has them."""
        return [matrix.detach().cpu().double().numpy().T for matrix in self.matrices]


def make_layer(name, task):
    """A layer of PyTorch's or of the peer's, whose hidden layers have `width · units` outputs."""
    inputs, *hidden, units = task.sizes
    if name == LINEAR:
        from torch.nn import Linear

        return Linear(inputs, units)
    from overparam import OverparamLinear

    if any(width != units for width in hidden):
        raise ValueError(f"{name} must have hidden widths of {units} units. Received: {hidden}")
    return OverparamLinear(inputs, units, width=1, depth=len(hidden) + 1)


def serve(gpu, tf32):
    """Answer the questions that come in, line by line."""
    import torch

    if gpu:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
    jobs = {}
    for line in sys.stdin:
        question = json.loads(line)
        what, name = question["what"], question["name"]
        answer = None
        if what == "turn":
            answer = jobs[name]()
        else:
            task = question["task"]
            training = TorchTraining(name, Task(**task | {"sizes": tuple(task["sizes"])}), gpu)
        if what == "prepare":
            jobs[name] = steady(training.step, **question["turn"])
        elif what == "trained":
            for _ in range(question["steps"]):
                training.step()
            answer = [matrix.tolist() for matrix in training.values()]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
