"""An image classifier, from pictures to a file that serves."""
