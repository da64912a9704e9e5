"""What is published of the tutorial's network, and of other convolutional networks."""

from functools import cached_property

from criteria import EPOCHS, TUNING_EPOCHS
from experiments.mnist import claims, figures, other_figures, other_results, other_settings, results
from experiments.mnist.settings import Settings
from experiments.room import Room
from presenting.tables import verdict_table
from running.records import Record, read_json, to_indented_json

PUBLISHED = {"dataset": "mnist", "init_stddev": 0.1}
MODELS = [(1, "product"), (2, "product"), (2, "factors")]


class OtherNetworks(Room):
    folder = "other_networks"

    def is_its_own(self, settings):
        return "network" in settings and settings["dataset"] == "mnist"

    @cached_property
    def results(self):
        """All of them."""
        return [results.load(path, other_settings.Settings) for path in self.paths]


class Published(Room):
    folder = "mnist_cnn"
    wants = "MNIST"

    def __init__(self, assets):
        super().__init__(assets)
        self.others = OtherNetworks(assets)

    def is_its_own(self, settings):
        published = all(settings.get(name) == value for name, value in PUBLISHED.items())
        return published and settings["epochs"] in (EPOCHS, TUNING_EPOCHS)

    def place(self, path):
        """By the name that its settings have now: older versions named folders otherwise."""
        if place := super().place(path):
            (start, *_) = Record.at(path).of_kind("start")
            return place.with_name(f"{Settings(**start['settings']).run_name}.jsonl.gz")
        return self.others.place(path)

    @cached_property
    def results(self):
        """All of the tutorial's network."""
        return [results.load(path) for path in self.paths]

    def groups(self, epochs):
        """Results of runs of so many epochs, by model, rates and seeds ascending."""
        groups = [[], [], []]
        for result in sorted(
            self.results, key=lambda r: (r.settings.learning_rate, r.settings.seed)
        ):
            if result.settings.epochs == epochs:
                model = result.settings.depth, result.settings.regularize
                groups[MODELS.index(model)].append(result)
        if not all(groups):
            folder = self.assets / self.folder
            raise ValueError(
                f"{folder} lacks records of some networks; take them over with --runs."
            )
        return groups

    @cached_property
    def summary(self):
        """Verdicts and summaries."""
        groups, rate_groups = self.groups(EPOCHS), self.groups(TUNING_EPOCHS)
        summaries = [results.summarize(group, groups[0]) for group in groups]
        tuned = results.summarize_tuned(rate_groups)
        others = other_results.summary(self.others.results)
        original, overparameterized, *_ = map(results.at_best_rate, rate_groups)
        tutorials = other_results.speed_up(overparameterized, original)
        return {
            "verdicts": claims.verdicts(summaries, tuned),
            "summaries": summaries,
            "tuned": tuned,
            "final_objective_by_rate": [
                {"model": summary["model"], "regularize": summary["regularize"]}
                | {f"{rate:g}": value for rate, value in results.rate_grid(group).items()}
                for summary, group in zip(tuned, rate_groups, strict=True)
            ],
            "other_networks": {
                "verdicts": other_results.verdicts(others, tutorials),
                "summaries": others,
            },
        }

    def claims(self):
        original, overparameterized, *_ = self.summary["summaries"]
        return [
            *self.summary["verdicts"],
            *self.summary["other_networks"]["verdicts"],
            claims.parameters(original["parameters"], overparameterized["parameters"]),
        ]

    def tables(self):
        tuned = self.summary["tuned"]
        untimed = [{k: v for k, v in s.items() if k != "milliseconds_per_step"} for s in tuned]
        return {
            "mnist_cnn": claims.table([self._timed(one) for one in self.summary["summaries"]]),
            "mnist_rates": claims.table(untimed),
            "other_networks": other_results.table(self.summary["other_networks"]["summaries"]),
            "mnist_cnn_verdicts": verdict_table(self.summary["verdicts"]),
        }

    def _timed(self, summary):
        """A summary with the step's duration from the benchmark: runs shared the machine."""
        model = "original" if summary["model"] == "original" else "two matrices"
        name = f"main, {model}, L2 on {summary['regularize']}"
        rows = read_json(self.assets / "benchmark_mnist_step.json")["rows"]
        (row,) = [row for row in rows if row["what"] == name]
        time = {"mean": row["median"], "standard_deviation": None}
        return summary | {"milliseconds_per_step": time}

    def texts(self):
        return {"mnist_cnn.json": to_indented_json(self.summary)}

    def draw(self):
        figures.draw_objective(self.groups(EPOCHS), self.assets / "mnist_cnn.png")
        figures.draw_rates(self.groups(TUNING_EPOCHS), self.assets / "mnist_rates.png")
        other_figures.draw_networks(self.others.results, self.assets / "other_networks.png")
