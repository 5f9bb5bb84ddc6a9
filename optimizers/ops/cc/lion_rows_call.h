// The custom calls of XLA for CPU.

#ifndef OPTIMIZERS_OPS_CC_LION_ROWS_CALL_H_
#define OPTIMIZERS_OPS_CC_LION_ROWS_CALL_H_

namespace lion {

// Operands: var, m, last_step (of no elements if nothing is decayed), seen (of
// none if nothing is counted), grad, indices, F64 [lr, beta_1, beta_2,
// weight_decay, frequency_power], S32 [seed, step]. Attributes: cautious,
// stochastic. Results, in the operands' memory: var, m, last_step and seen.
constexpr char kRowsCall[] = "lion_ctr_update_rows";

// Operand: indices. Attribute: rows. Result, in its memory: the same.
constexpr char kCheckCall[] = "lion_ctr_check_ids";

}  // namespace lion

#endif  // OPTIMIZERS_OPS_CC_LION_ROWS_CALL_H_
