"""Classes: the learners' edition, and grading, parallel, isolated and warm, with nbgrader as the book-keeper."""
