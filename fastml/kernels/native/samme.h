#include "weights.h"

#define FM_WITHOUT_AMX
#define FM_BODY "samme_body.h"
#include "ladder.h"

static const fm_weights_kernel fm_samme_error[FM_RUNGS][2] = FM_TABLE(error);
static const fm_weights_kernel fm_samme_update[FM_RUNGS][2] = FM_TABLE(update);
