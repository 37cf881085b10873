"""The test suite; a regular package so that no installed package of the same name can shadow its shared modules."""
