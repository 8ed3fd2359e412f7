"""Grading a class: parallel, isolated and warm, with nbgrader as the book-keeper. Its README says what is promised."""
