# Configuration files.
ab_fuzz(NAME config SOURCES config.c LIBS ab_base)
