#include "weights.h"

#define FM_WITHOUT_AMX
#define FM_BODY "adam_body.h"
#include "ladder.h"

static const fm_weights_kernel fm_adam_squares[FM_RUNGS][2] = FM_TABLE(squares);
static const fm_weights_kernel fm_adam_update[FM_RUNGS][2] = FM_TABLE(update);
