# Plots and escaping, as the report and the bench use them.
if(AB_TOOLS)
    set(inspector ${CMAKE_SOURCE_DIR}/tools/anabranch)
    ab_test(NAME test_plot SOURCES test_plot.c ${inspector}/plot_ticks.c ${inspector}/plot_paper.c
        ${inspector}/plot_lines.c ${inspector}/plot_bars.c ${inspector}/markup.c ${inspector}/text.c
        LIBS m LABELS unit)
endif()
