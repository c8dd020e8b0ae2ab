/* Threads that help with work of microseconds. */
#ifndef FNN_POOL_H
#define FNN_POOL_H

#include "thread.h"

/* Calls work(context, 0) here and work(context, t), 0 < t < size, on those helpers that come while
 * it lasts; returns when every call that began has ended. Whatever `size` says, a call of `work`
 * may find itself alone: it takes the next piece of work until none is left. */
void fnn_pool_run(int size, fnn_work *work, void *context);

/* For the child of a fork, which has none of its parent's helpers: the next call hires new ones. */
void fnn_pool_forget(void);

#endif
