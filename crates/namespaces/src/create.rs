//! Making new namespaces around a command.
