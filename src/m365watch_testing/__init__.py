"""Contract suites, fakes and the simulation, for other people's outputs too."""
