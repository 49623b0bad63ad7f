"""Run an example experiment and photograph NNI's page of it while it runs: how the picture of the docs is made.

    python benchmarks/reproduce/nni_screenshot.py docs/nni.png

Needs Chromium with its driver (Debian: ``apt-get install chromium chromium-driver``) and selenium.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nni_runs import Experiment
from webpages import photograph

EXAMPLE = Path(__file__).parents[2] / "examples" / "nni" / "weaknas_nasbench201.yml"


def main() -> None:
    """Start the experiment, wait for some trials, take the picture, stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--trials", type=int, default=25, help="that have finished when the picture is taken")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Experiment(Path(folder), EXAMPLE) as experiment:
        experiment.create()
        experiment.wait_for(jobs=options.trials, timeout_s=60 * options.trials)
        photograph(experiment.url + "/oview", options.picture, until=experiment.id, hide=folder)
    print(options.picture)


if __name__ == "__main__":
    main()
