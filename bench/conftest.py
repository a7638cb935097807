def pytest_addoption(parser):
    parser.addoption("--every-rung", action="store_true", help="time each ISA rung of native, not the fastest alone")
