//! What the fuzz target does; tests replay its corpus.
