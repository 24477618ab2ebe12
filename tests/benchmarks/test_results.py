"""What stands in benchmarks/results."""

import re

from conftest import REPOSITORY


def test_results_name_no_folder_of_the_machine_that_measured() -> None:
    results = sorted((REPOSITORY / "benchmarks" / "results").glob("*.*"))
    assert len(results) > 5
    assert not [file.name for file in results if re.search(r"[\s`\"'](/tmp/|/home/|/root/|/Users/)", file.read_text())]
