# Plots and escaping, as the report and the bench use them; looks at nodes over time.
if(AB_TOOLS)
    set(inspector ${CMAKE_SOURCE_DIR}/tools/anabranch)
    ab_test(NAME test_plot SOURCES test_plot.c ${inspector}/plot_ticks.c ${inspector}/plot_paper.c
        ${inspector}/plot_lines.c ${inspector}/plot_bars.c ${inspector}/markup.c ${inspector}/text.c
        ${CMAKE_SOURCE_DIR}/tests/support/markup_check.c LIBS m LABELS unit)

    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
    ab_test(NAME test_history SOURCES test_history.c ${inspector}/sample.c ${inspector}/sample_take.c
        ${inspector}/history.c ${inspector}/row.c ${inspector}/text.c
        LIBS ab_base PkgConfig::JANSSON m LABELS unit)
    ab_test(NAME test_top SOURCES test_top.c ${inspector}/top_view.c ${inspector}/sample.c ${inspector}/row.c
        ${inspector}/plot_ticks.c ${inspector}/text.c LIBS ab_base PkgConfig::JANSSON m LABELS unit)
endif()
