"""For every rule a module that plants its mistake into a real kernel."""
