"""Classes: the learners' edition, and grading what a class hands in."""
