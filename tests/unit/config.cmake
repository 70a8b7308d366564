# Error names, levels, configuration.
ab_test(NAME test_error SOURCES test_error.c LIBS ab_base LABELS unit)
ab_test(NAME test_config SOURCES test_config.c LIBS ab_base LABELS unit)
ab_test(NAME test_config_check SOURCES test_config_check.c LIBS ab_base LABELS unit)
target_compile_definitions(test_config_check PRIVATE CONFIGURATION_MD="${CMAKE_SOURCE_DIR}/docs/CONFIGURATION.md")
ab_test(NAME test_config_alloc SOURCES test_config_alloc.c LIBS ab_base LABELS unit ALLOC)
