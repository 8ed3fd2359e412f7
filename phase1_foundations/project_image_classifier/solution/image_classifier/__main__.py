"""`python -m image_classifier train|evaluate|predict|export`."""

from image_classifier.cli import main

if __name__ == "__main__":
    main()
