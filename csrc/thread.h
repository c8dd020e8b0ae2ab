/* Threads of our own beside OpenMP's. */
#ifndef FNN_THREAD_H
#define FNN_THREAD_H

#include <pthread.h>
#include <signal.h>

typedef void fnn_work(void *context, int thread);

/* A new thread, if the system grants one; signals stay with the threads that were there before. */
static inline int fnn_start_thread(pthread_t *thread, void *(*run)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0;
}

struct fnn_call {
    fnn_work *work;
    void *context;
    int number;
};

static inline void *fnn_make_call(void *argument) {
    const struct fnn_call *call = argument;
    call->work(call->context, call->number);
    return NULL;
}

/* Calls work(context, number) on a new thread and waits for it; 0, without a call, if there is none
 * to be had. */
static inline int fnn_call_on_new_thread(fnn_work *work, void *context, int number) {
    struct fnn_call call = {work, context, number};
    pthread_t thread;
    if (!fnn_start_thread(&thread, fnn_make_call, &call)) return 0;
    pthread_join(thread, NULL);
    return 1;
}

#endif
