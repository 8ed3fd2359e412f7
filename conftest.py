"""`pytest phase1_foundations/lab1_… --against solution|starter|workspace|PATH` runs a unit's checkers."""

pytest_plugins = ["grading.pytest_against"]
