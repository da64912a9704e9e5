"""What the report says of each experiment, figure and table: words only.

A figure in assets/ appears in the report with its entry in `FIGURES`, and is an error without one;
so it is with records and `EXPERIMENTS`, and with generated tables and `TABLES`. Numbers that were
measured are not written here: they stand in the tables, which come from the records.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One section of the report.

    Attributes:
        title: heading.
        question: what it asks, in a sentence or two.
        records: pattern of the paths of its records in assets/.
        commands: run it again; `{name}` stands for the recorded values of a setting.
        chosen: settings that its records have, where others share their folder.
    """

    title: str
    question: str
    records: str
    commands: tuple
    chosen: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of assets/.

    Attributes:
        experiment: its section.
        title: first sentence of the caption.
        shows: the rest of the caption: what to see in it.
        alt: the figure in words, for those who cannot see it.
        command: draw it again; `{name}` as for experiments.
    """

    experiment: str
    title: str
    shows: str
    alt: str
    command: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A generated part of the results: its section, and the captions of the tables in it."""

    experiment: str
    titles: tuple


EXPERIMENTS = {
    "gas_sensor": Experiment(
        "Does depth make gradient descent faster?",
        "Linear regression of Ethanol concentrations on 128 features of a gas sensor, with lp "
        "loss and full batches. Each model is trained at a grid of learning rates that is "
        "extended until the best is inside it. The speed-up of one model over another, both at "
        "their best rates, is the number of iterations over those after which it has reached the "
        "other's final loss.",
        "gas_sensor/*.jsonl.gz",
        ("python reproduce/gas_sensor.py --experiments all --seeds {seeds} --publish",),
    ),
    "consequences": Experiment(
        "What follows from the rule",
        "Is gradient descent at depth 2 an adaptive rate with a memory of past gradients, and can "
        "a regularizer do what depth does? The results are two rows of the ledger.",
        "consequences.jsonl.gz",
        ("python reproduce/consequences.py --seeds {seeds} --publish",),
    ),
    "end_to_end_rule": Experiment(
        "Does the rule do what the factors do?",
        "Gradient descent on linear networks beside one layer trained by the end-to-end update "
        "rule, from small starts: balanced, as the theorem assumes, or of independent weights.",
        "end_to_end_rule/*.jsonl.gz",
        ("python reproduce/end_to_end_rule.py --seeds {seeds} --publish",),
    ),
    "mnist_cnn": Experiment(
        "The MNIST tutorial's network",
        "Each dense matrix of the tutorial's convolutional network is replaced by two in "
        "succession. The L2 term acts on the end-to-end matrices or on each matrix: the paper "
        "does not say which.",
        "mnist_cnn/*.jsonl.gz",
        (
            "python reproduce/mnist_cnn.py --compare --seeds {seed} --epochs {epochs}",
            "python reproduce/mnist_cnn.py --overparam --regularize factors --seeds {seed} "
            "--epochs {epochs}",
            "python reproduce/publish.py --runs runs/mnist_cnn",
        ),
        {"epochs": 10},
    ),
    "mnist_rates": Experiment(
        "The same with learning rates tuned for each network",
        "Rates a factor of two apart at the first seed, until the best is inside the grid; then "
        "the other seeds at the best rate.",
        "mnist_cnn/*.jsonl.gz",
        (
            "python reproduce/mnist_rates.py --seeds {seed} --epochs {epochs}",
            "python reproduce/publish.py --runs runs/mnist_cnn",
        ),
        {"epochs": 3},
    ),
    "other_networks": Experiment(
        "Other convolutional networks",
        "The blog post says that similar experiments on other networks gave a speed-up, but not "
        "nearly as prominent. Three networks on MNIST, original, with their dense layers factored, "
        "and with their convolutions factored too; learning rate and scale of the start tuned for "
        "each.",
        "other_networks/*.jsonl.gz",
        (
            "python reproduce/other_networks.py --seeds {seed} --epochs {epochs} --publish",
            "python reproduce/publish.py",
        ),
    ),
    "probe": Experiment(
        "Does the probe's advice hold?",
        "Short sweeps on parts of a problem's data say which depth to use; the full run says "
        "whether they were right. Real problems, most of which the probe never saw.",
        "probe/*.jsonl.gz",
        ("python reproduce/probe.py --publish", "python reproduce/publish.py"),
    ),
    "training_step": Experiment(
        "What a layer's training step costs",
        "A square factored layer beside a plain one, plain ones stacked, and PyTorch's, with "
        "batch, width and depth varied one at a time.",
        "benchmark_training_step.json",
        ("python benchmarks/training_step.py --rounds {rounds}",),
    ),
    "optimizer_growth": Experiment(
        "How a step of the rule grows with width and depth",
        "A step of EndToEnd on one square kernel beside SGD, Adam, Muon and the textbook's way. "
        "The result is in the table of exponents.",
        "benchmark_optimizer_growth.json",
        (
            "python benchmarks/optimizer_growth.py --rounds {rounds} --steps {steps_per_turn} "
            "--dtype {dtype}",
        ),
    ),
    "start_up": Experiment(
        "What importing costs",
        "Importing the package beside importing Keras alone, in interpreters of their own. The "
        "result is a row of the targets.",
        "benchmark_start_up.json",
        ("python benchmarks/start_up.py --rounds {rounds}",),
    ),
    "mnist_step": Experiment(
        "What a training step costs",
        "The main job against a bare hand-written loop of the same network, and factored against "
        "plain layers, in turns on one machine; ratios are formed round by round.",
        "benchmark_mnist_step.json",
        ("python benchmarks/mnist_step.py --rounds {rounds} --steps {steps_per_turn}",),
    ),
    "monitor": Experiment(
        "What watching costs",
        "The overparameterized tutorial network trained with and without FactorMonitor at its "
        "default period, in turns of whole calls to fit.",
        "benchmark_monitor.json",
        ("python benchmarks/monitor.py --rounds {rounds} --steps {steps_per_turn}",),
    ),
    "end_to_end_step": Experiment(
        "What a step of the rule costs on one kernel",
        "A step of EndToEnd beside SGD, its peer Muon and the textbook's way, by the rank of the "
        "gradient and the fraction of its norm that the kernel moves in a step.",
        "benchmark_end_to_end_step.json",
        ("python benchmarks/end_to_end_step.py --rounds {rounds} --steps {steps_per_turn}",),
    ),
    "end_to_end_cnn": Experiment(
        "What a training step by the rule costs",
        "The tutorial's original network with its dense kernels trained by the rule, beside SGD "
        "and Muon.",
        "benchmark_end_to_end_cnn.json",
        (
            "python benchmarks/end_to_end_cnn.py --tolerance {tolerance} --rounds {rounds} "
            "--steps {steps_per_turn}",
        ),
    ),
    "kept_rule_error": Experiment(
        "How exact the optimizer is",
        "The gradient of EndToEnd in float32 against the exact rule in float64 along a training, "
        "in relative Frobenius norm.",
        "kept_rule_error.json",
        ("python benchmarks/kept_rule_error.py --steps {steps} --every {every}",),
    ),
    "sweep": Experiment(
        "What a sweep costs",
        "Many linear networks trained at once in one compiled loop, against the ways one would "
        "otherwise do it on the same machine.",
        "benchmark_sweep.json",
        ("python benchmarks/sweep.py --rounds {rounds}",),
    ),
    "conversion": Experiment(
        "Converting whole models",
        "Keras's applications overparameterized and collapsed again: do they compute the same, "
        "how long does it take, and how fast is the collapsed model?",
        "benchmark_conversion.json",
        (
            "python benchmarks/conversion.py --size {size} --batch {batch} --rounds {rounds} "
            "--steps {steps_per_turn}",
        ),
    ),
    "faults": Experiment(
        "Faults",
        "Every script and the sweep engine killed at random times and file operations, with a full "
        "or read-only disk, with damaged files, diverging, without network, and twice at once. The "
        "same command must come to what an undisturbed run leaves, to the bit, or have ended in "
        "one sentence that says what to do.",
        "fault_matrix.json",
        (
            "python tests/fault_harness.py --kills {kills} --seed {seed} "
            "--output assets/fault_matrix.json",
        ),
    ),
}

FIGURES = {
    "benchmark_training_step": Figure(
        "training_step",
        "Duration of a training step by batch, width and depth",
        "A factored layer takes as long as plain ones stacked, and less where the batch is so "
        "large that multiplying its factors first is cheaper. Medians and quartiles over rounds; "
        "dotted, the arithmetic at the speed of a large matrix product.",
        "Three plots of milliseconds against batch, width and depth, all on log scales, for Dense, "
        "FactoredDense, stacked Dense layers and PyTorch's Linear and OverparamLinear.",
        "python reproduce/publish.py",
    ),
    "probe": Figure(
        "probe",
        "What the probe expected, and what the full run gave",
        "On l4 regressions of gases depth helps as was expected; on l2 regressions and "
        "classifications it does not, and nothing else was expected. Depth 1 gains more on "
        "classifications than the probe foresees.",
        "For each problem a bar of the expected speed-up and a circle at that of the full run, on "
        "a log scale, in a panel for depth 2 and one for depth 3.",
        "python reproduce/publish.py",
    ),
    "gas_sensor_l4": Figure(
        "gas_sensor",
        "Loss by iteration at the best rates, and final loss by learning rate, l4 loss",
        "Depth 1 is ahead at first; depths 2 and 3 overtake it and end lower. Medians and ranges "
        "over seeds; crosses are rates at which a seed diverged.",
        "Two plots. Above: training loss against iteration, both on log scales, for gradient "
        "descent at depths 1, 2 and 3 and for AdaGrad and AdaDelta at depth 1; the curves of "
        "depths 2 and 3 start flat, then cross that of depth 1. Below: final loss against "
        "learning rate, with the best rate of each model marked.",
        "python reproduce/gas_sensor.py --experiments l4 --publish",
    ),
    "gas_sensor_l2": Figure(
        "gas_sensor",
        "The same depths with l2 and with l4 loss",
        "With l2 loss the deeper models stay behind depth 1; with l4 loss they overtake it. Each "
        "at its best rate; medians and ranges over seeds.",
        "Two plots of training loss against iteration for gradient descent at depths 1, 2 and 3. "
        "Left, l2 loss: depth 1 is lowest almost throughout. Right, l4 loss: depths 2 and 3 cross "
        "depth 1 in the second half.",
        "python reproduce/gas_sensor.py --experiments l2 --publish",
    ),
    "gas_sensor_adam": Figure(
        "gas_sensor",
        "Adam at depths 1 to 3, l4 loss",
        "Loss by iteration at the best rates, and final loss by learning rate. Medians and ranges "
        "over seeds.",
        "Two plots. Above: training loss against iteration for Adam at depths 1, 2 and 3; the "
        "deeper models start more slowly and end slightly lower. Below: final loss against "
        "learning rate, with the best rate of each depth marked.",
        "python reproduce/gas_sensor.py --experiments adam --publish",
    ),
    "gas_sensor_map": Figure(
        "gas_sensor",
        "Speed-up over depth 1, by depth and power of the loss",
        "Blue is faster than depth 1, red slower. From a balanced start (left) and from near the "
        "identity (right), each model at its best rate; medians over seeds.",
        "Two grids of numbers on coloured cells: rows are the powers 2, 3, 4, 6 and 8 of the "
        "loss, columns the depths 1 to 8. Speed-ups grow from below one at power 2 to far above "
        "one at powers 6 and 8, less so from the identity start.",
        "python reproduce/gas_sensor.py --experiments map --publish",
    ),
    "gas_sensor_start": Figure(
        "gas_sensor",
        "Speed-up, final loss and best rate by the scale of the start, l4 loss",
        "Larger starts force the rate down, of depth 1 before the others; from very large ones "
        "all suffer. Medians and ranges over seeds.",
        "Three plots against the end-to-end norm of the start for depths 1, 2 and 3: speed-up "
        "over depth 1 from the same start, final loss, and best learning rate. Final losses are "
        "level up to a norm of about a third and rise after it, where the best rates fall.",
        "python reproduce/gas_sensor.py --experiments start --publish",
    ),
    "gas_sensor_deep": Figure(
        "gas_sensor",
        "Depths 4 and 8, from near zero and from near the identity, l4 loss",
        "From small weights depth 4 stalls for thousands of iterations and depth 8 does not move "
        "at any rate that does not diverge; near the identity both start at once.",
        "Two plots of training loss against iteration, depth 4 on the left, depth 8 on the "
        "right. The curves from near the identity fall from the first iteration on; those from "
        "near zero are flat, at depth 4 until late, at depth 8 throughout.",
        "python reproduce/gas_sensor.py --experiments deep --publish",
    ),
    "gas_sensor_width": Figure(
        "gas_sensor",
        "Speed-up and final loss by hidden width, independent weights, l4 loss",
        "Independent weights are unbalanced, the more so the narrower the layer. Medians and "
        "ranges over seeds.",
        "Two plots against the hidden widths 1, 10 and 100 for depths 2 and 3: speed-up over "
        "depth 1, highest at width 10 for both depths, and final loss, lowest there.",
        "python reproduce/gas_sensor.py --experiments width --publish",
    ),
    "vector_field": Figure(
        "consequences",
        "The rule as a field of arrows on two weights, and its work around a closed loop",
        "Depth shortens steps near zero and lengthens them far out, which helps gradient descent "
        "from small starts and hinders it from large ones. Around the loop of the paper's theorem "
        "a gradient field does no work; the fields of depths 3 and 4 do, as the closed form says.",
        "Six plots. Fields and trajectories at depths 1, 2 and 4 over the contours of a loss with "
        "a valley; the deeper, the fewer iterations to the minimum. Speed-up over depth 1 against "
        "the norm of the start, over random problems: above one at depth 2 near zero, below one "
        "far out. A closed loop beside zero with the field along it, and the work along the loop, "
        "which ends at zero for depths 1 and 2 and above zero for depths 3 and 4.",
        "python reproduce/explain.py --publish",
    ),
    "end_to_end_rule": Figure(
        "end_to_end_rule",
        "Training loss of linear networks and of the end-to-end rule",
        "From balanced starts (left) the rule, thin, lies on the network, thick. From "
        "independent weights (right) the two leave the saddle at different times. Medians and "
        "ranges over seeds.",
        "Six plots of training loss against iteration: three regressions one below the other, "
        "balanced starts on the left, independent starts on the right. On the left, thin curves "
        "run inside the thick ones. On the right, narrow deep networks fall later than the rule "
        "and wide ones sooner.",
        "python reproduce/end_to_end_rule.py --seeds {seeds} --publish",
    ),
    "mnist_cnn": Figure(
        "mnist_cnn",
        "Objective, cross-entropy and L2 term of the networks",
        "With the L2 term on the end-to-end matrices the objective falls as in the paper, and "
        "almost all of it is the L2 term: the cross-entropies cannot be told apart. Medians and "
        "ranges over seeds of means over 100 steps.",
        "Three plots against the training step for the original network and the "
        "overparameterized one with the L2 term on the product and on the factors: objective, "
        "cross-entropy and L2 term. Objective and L2 term of the product variant fall far below "
        "the others, which stay close; the three cross-entropies overlap.",
        "python reproduce/publish.py",
    ),
    "mnist_rates": Figure(
        "mnist_rates",
        "Final objective by learning rate, and curves at the best rates",
        "A cross is a rate at which the network diverged; filled marks are the best rates, at all "
        "seeds.",
        "Three plots. Above: final objective against learning rate for the three networks; the "
        "original's best rate is higher than those of the others. Below: objective and "
        "cross-entropy against the training step at each network's best rate.",
        "python reproduce/publish.py",
    ),
    "other_networks": Figure(
        "other_networks",
        "Training loss of three other networks, original and factored",
        "Left, curves at each model's best rate and scale of the start, medians and ranges over "
        "seeds; right, the final loss by learning rate at one seed.",
        "Six plots, a row for each network. Left, cross-entropy against the training step for the "
        "original, with dense layers factored, and with convolutions factored too. Right, "
        "cross-entropy over the last steps against the learning rate, the best rates filled.",
        "python reproduce/publish.py",
    ),
}

TABLES = {
    "gas_sensor_l4": Table("gas_sensor", ("Models at their best rates, l4 loss",)),
    "gas_sensor_start": Table("gas_sensor", ("Models by the scale of the start, l4 loss",)),
    "end_to_end_rule": Table(
        "end_to_end_rule",
        ("Linear networks beside the rule, median and range over seeds", "Verdicts"),
    ),
    "mnist_cnn": Table("mnist_cnn", ("Mean ± standard deviation over seeds",)),
    "mnist_rates": Table("mnist_rates", ("At tuned rates, mean ± standard deviation over seeds",)),
    "other_networks": Table(
        "other_networks", ("Networks at their best rates and scales, median and range over seeds",)
    ),
    "mnist_cnn_verdicts": Table("mnist_cnn", ("Verdicts",)),
    "targets": Table("mnist_step", ("All benchmarks against their targets",)),
    "training_step": Table("training_step", ("Duration of a square layer's step, and ratios",)),
    "growth": Table("training_step", ("Exponents of growth",)),
    "mnist_step": Table("mnist_step", ("Duration of a step, and ratios",)),
    "monitor": Table("monitor", ("Duration of a step with and without, and their ratio",)),
    "end_to_end_step": Table("end_to_end_step", ("Duration of a step on one kernel, and ratios",)),
    "end_to_end_cnn": Table("end_to_end_cnn", ("Duration of a training step, and ratios",)),
    "kept_rule_error": Table("kept_rule_error", ("Errors by kernel and tolerance",)),
    "sweep": Table("sweep", ("Duration by configuration and iteration, and ratios",)),
    "probe": Table("probe", ("How often the advice held", "Every problem")),
    "conversion": Table("conversion", ("Models converted there and back",)),
    "fault_matrix": Table("faults", ("Trials by script and fault", "What was said")),
}
