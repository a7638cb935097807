#include "pass.h"

#define FM_BODY "lstm_body.h"
#include "ladder.h"

static const fm_kernel fm_lstm_forward[FM_RUNGS][2] = FM_TABLE(forward);
static const fm_kernel fm_lstm_backward[FM_RUNGS][2] = FM_TABLE(backward);
static const fm_kernel fm_lstm_pack[FM_RUNGS][2] = FM_TABLE(pack);
