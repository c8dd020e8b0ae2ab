"""Which group a text belongs to, from tf-idf features: a sparse matrix, taken as it is.

The texts are the 20 newsgroups, where scikit-learn has them on this machine already, or else made
up: a few words on one of four subjects among many that say nothing.
"""

import numpy as np

import fastnn

try:
    from sklearn.datasets import fetch_20newsgroups
    from sklearn.feature_extraction.text import TfidfVectorizer
except ImportError:
    raise SystemExit("this example needs scikit-learn: pip install scikit-learn") from None

SUBJECTS = {
    "cooking": "oven flour butter onion garlic simmer pepper recipe dough sauce",
    "astronomy": "orbit telescope galaxy comet lunar eclipse nebula planet star crater",
    "music": "chord melody rhythm violin tempo octave soprano concert piano tune",
    "gardening": "soil seed prune compost blossom hedge mulch weed shrub petal",
}


def made_up_texts(n, rng):
    """n texts of 80 words, of which about 5 are on their subject and 2 on others."""
    words = [text.split() for text in SUBJECTS.values()]
    y = rng.integers(0, len(words), n)
    texts = []
    for subject in y:
        fillers = (20_000 * rng.random(73) ** 3).astype(int)  # few are frequent, many rare
        own, others = rng.choice(words[subject], 5), rng.choice(np.ravel(words), 2)
        texts.append(" ".join([*own, *others, *(f"filler{i}" for i in fillers)]))
    return texts, y


try:
    news = [
        fetch_20newsgroups(subset=part, download_if_missing=False) for part in ("train", "test")
    ]
    (texts, y), (test_texts, y_test) = ((part.data, part.target) for part in news)
    names = news[0].target_names
except OSError:
    rng = np.random.default_rng(0)
    (texts, y), (test_texts, y_test) = made_up_texts(4000, rng), made_up_texts(1000, rng)
    names = list(SUBJECTS)

vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
X, X_test = vectorizer.fit_transform(texts), vectorizer.transform(test_texts)
share = X.nnz / (X.shape[0] * X.shape[1])
print(f"{X.shape[0]:,} texts, {X.shape[1]:,} words, {100 * share:.2f} % of the matrix stored")

net = fastnn.MLP((X.shape[1], 64, len(names)))
history = net.fit(X, y, epochs=10, dropout=0.3)
print(f"{max(history['samples_per_second']):,.0f} texts trained on per second")
print(f"test accuracy {100 * net.evaluate(X_test, y_test)['accuracy']:.2f} %")

probabilities = net.predict_proba(vectorizer.transform(vectorizer.get_feature_names_out()))
for name, word in zip(names, probabilities.argmax(axis=0), strict=True):
    print(f"{name}: {vectorizer.get_feature_names_out()[word]}")
