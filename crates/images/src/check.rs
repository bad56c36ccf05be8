//! What the programs of a root lack.
