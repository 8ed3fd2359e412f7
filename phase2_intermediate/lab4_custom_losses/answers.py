"""Known answers to Lab 4: the mistakes people make, and right answers that differ from ours."""
