//! Nothing here: the tests are in `tests/`, one executable a subject; what they share is `drydock-testkit`.
