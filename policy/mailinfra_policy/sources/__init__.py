"""Where `mailinfra check` finds resources: a program that is run without an engine, or a file that the engine wrote."""
