"""Configurations found by measuring: ``tritium tune``, and the tables that it writes.

``table`` is what kernels ask; ``problems`` names what is tuned, ``families`` how it is run, ``planning`` compiles
candidates in other processes, ``device`` times them, ``search`` decides, ``command`` is the command line.
"""
