//! Nothing here: the tests are the files of this folder (see Cargo.toml).
