"""Quizzes: a bank of questions, challenges and code reviews, and the sittings that draw from it."""

QUESTIONS = 10
POINTS = {"question": 1, "challenge": 5, "line": 2, "fix": 3}
"""What each item of a sitting is worth: a question, the challenge, and of the review the line and its fix."""
MAX_POINTS = QUESTIONS * POINTS["question"] + POINTS["challenge"] + POINTS["line"] + POINTS["fix"]
