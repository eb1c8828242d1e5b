"""One ``.ffe`` file that holds everything a prediction needs."""
