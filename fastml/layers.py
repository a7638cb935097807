class RNN:
    pass


class GRU:
    pass


class LSTM:
    pass
