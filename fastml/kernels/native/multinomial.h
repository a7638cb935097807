#include "mixture.h"

#define FM_WITHOUT_AMX
#define FM_BODY "multinomial_body.h"
#include "ladder.h"

static const fm_mixture_kernel fm_multinomial_prepare[FM_RUNGS][2] = FM_TABLE(prepare);
static const fm_mixture_kernel fm_multinomial_walk[FM_RUNGS][2] = FM_TABLE(walk);
