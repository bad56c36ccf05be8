//! A root file system out of one static file.
