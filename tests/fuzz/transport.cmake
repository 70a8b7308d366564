# Frames and handshake. The corpus in corpus/frame is made by `fuzz_frame_seeds DIR` (tests/fuzz/frame_seeds.c).
ab_fuzz(NAME frame SOURCES frame.c LIBS ab_transport ab_wal)
add_executable(fuzz_frame_seeds EXCLUDE_FROM_ALL frame_seeds.c)
target_link_libraries(fuzz_frame_seeds PRIVATE ab_transport ab_wal ab_options)

# The corpus also runs without libFuzzer, as a plain test.
ab_test(NAME test_frame_corpus SOURCES frame.c frame_corpus.c LIBS ab_transport ab_wal LABELS fuzz)
target_compile_definitions(test_frame_corpus PRIVATE CORPUS="${CMAKE_CURRENT_SOURCE_DIR}/corpus/frame")
