def pytest_addoption(parser):
    parser.addoption("--every-rung", action="store_true", help="time each ISA rung of native, not the fastest alone")


def pytest_xdist_auto_num_workers():
    """Timings are taken in one process."""
    return 0
