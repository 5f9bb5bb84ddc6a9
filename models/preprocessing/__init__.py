"""From raw features to model inputs: vocabularies, ids, Transform's graph."""
