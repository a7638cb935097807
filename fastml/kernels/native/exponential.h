#include "weights.h"

#define FM_WITHOUT_AMX
#define FM_BODY "exponential_body.h"
#include "ladder.h"

static const fm_weights_kernel fm_exponential_exponent[FM_RUNGS][2] = FM_TABLE(exponent);
static const fm_weights_kernel fm_exponential_sum[FM_RUNGS][2] = FM_TABLE(sum);
static const fm_weights_kernel fm_exponential_update[FM_RUNGS][2] = FM_TABLE(update);
static const fm_weights_kernel fm_exponential_gradient[FM_RUNGS][2] = FM_TABLE(gradient);
