"""A new user's first hour as a table and a transcript, from the report of its benchmark."""

from presenting.tables import markdown_table
from running.records import read_json


def first_hour(path):
    """Markdown: what each step took at each commit, and what the last one's showed.

    Args:
        path: the report of `benchmarks/first_hour.py`.
    """
    report = read_json(path)
    hours = report["hours"]
    head = ["Step", *(f"`{hour['commit']}`: wall, CPU (s); lines printed" for hour in hours)]
    rows = [
        [of_step[0]["step"], *map(_cell, of_step)]
        for of_step in zip(*(hour["steps"] for hour in hours), strict=True)
    ]
    rows.append(["(installed)", *(f"{hour['installed_bytes'] / 1e9:.1f} GB" for hour in hours)])
    return markdown_table(head, rows, f"{report['device']}.") + "\n\n" + _transcript(hours[-1])


def _cell(step):
    return f"{step['wall']:.1f}, {step['cpu']:.1f}; {step['lines']['number']}"


def _transcript(hour):
    """The last lines that each step printed."""
    lines = []
    for step in hour["steps"]:
        lines += [f"# {step['step']}: {step['wall']:.1f} s", *step["lines"]["last"], ""]
    return "\n".join(["```text", *lines[:-1], "```"])
