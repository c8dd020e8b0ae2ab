"""scikit-learn: MLPClassifier, one partial_fit an epoch, which shuffles by itself."""

from __future__ import annotations

from bench.racers import BATCH_SIZE, LEARNING_RATE, N_HIDDEN, Race, read_mnist, run


def racer(race: Race) -> None:
    """Trains until race is over."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    race.split("imports")
    X, y, X_test, y_test = read_mnist()
    race.split("loading")
    model = MLPClassifier(
        (N_HIDDEN,),
        solver="adam",
        alpha=0.0,
        batch_size=BATCH_SIZE,
        learning_rate_init=LEARNING_RATE,
        random_state=race.seed,
    )
    classes = np.arange(10)
    while True:
        model.partial_fit(X, y, classes=classes)
        if race.is_over((model.predict(X_test) == y_test).mean()):
            return


if __name__ == "__main__":
    run(racer)
