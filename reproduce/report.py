"""All results on one page: the site's pages of results, made from the records in assets/.

    python reproduce/report.py                         write runs/report.html
    python reproduce/report.py --output report.html    elsewhere

The page needs nothing but itself: no network, no other files, no JavaScript. A few seconds; nothing
is trained, and the same records give the same page. Your own runs are on it once their scripts were
given `--publish`, or publish.py took them over.
"""

from pathlib import Path

from publishing import assets
from running import records
from running.options import command_parser


def html():
    """The page of what is in assets/, as text.

    Raises:
        ValueError: if something there is damaged, or is not what the records say.
    """
    from publishing import pages  # and what reads Markdown and images

    texts, parts = assets.rendered()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{path} is not what the records in {assets.ROOT / 'assets'} say: restore what is "
                "damaged, or run publish.py if it is out of date."
            )
    return pages.one_page(assets.ROOT / "docs" / "results", parts)


def parse(arguments=None):
    """Options of the command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--output", type=Path, default="runs/report.html", help="(%(default)s)")
    options = parser.parse_args(arguments)
    if options.output.is_dir():
        parser.error(f"--output must be a file, received the folder {str(options.output)!r}")
    return options


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with assets.command("report.py"):
        records.make_folder(options.output.parent)
        text = html()
        records.write_atomically(options.output, lambda path: path.write_bytes(text.encode()))
    print(f"Report: {options.output}")


if __name__ == "__main__":
    main()
