# The main job as tools/quickstart runs it; smaller under a sanitizer.
if(TARGET mainjob)
    set(points 200000)
    if(AB_SANITIZE)
        set(points 30000)
    endif()
    add_test(NAME main_job COMMAND mainjob --bin ${CMAKE_BINARY_DIR}/bin --points ${points})
    set_tests_properties(main_job PROPERTIES TIMEOUT 300 LABELS system)
endif()
