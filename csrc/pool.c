/* Helpers spin for some 50 us after their last work, then sleep. They never yield: whoever yields
 * is the first to lose the core again, while others wait for the work it has taken.
 *
 * Not OpenMP: the end of its parallel region waits for every thread of the team, so a thread that
 * was woken on the core of its caller costs whole time slices, twice 4 ms where the work takes
 * 0.1 ms. Here nobody waits for a helper that has not begun. */
#include "pool.h"
#include "team.h"

static struct {
    pthread_mutex_t in_use; /* held by the one caller that has the helpers */
    int helpers;
    unsigned last_job;
    fnn_work *work; /* of the open job */
    void *context;
    int size;
    _Alignas(64) atomic_uint job; /* the open job's number, or 0 */
    _Alignas(64) atomic_int inside;
    atomic_int asleep;
    pthread_mutex_t lock; /* for sleeping */
    pthread_cond_t wake;
} pool = {
    .in_use = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

void fnn_pool_forget(void) {
    pool.helpers = 0;
    atomic_init(&pool.job, 0);
    atomic_init(&pool.inside, 0);
    atomic_init(&pool.asleep, 0);
    pthread_mutex_init(&pool.in_use, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
}

/* The number of an open job other than `last`, or 0. */
static unsigned new_job(unsigned last) {
    const unsigned job = atomic_load(&pool.job);
    return job == last ? 0 : job;
}

static unsigned wait_for_job(unsigned last) {
    unsigned job;
    for (int spins = 0; spins < FNN_SPINS; spins++) {
        if ((job = new_job(last))) return job;
        fnn_pause();
    }
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.asleep, 1);
    while (!(job = new_job(last))) pthread_cond_wait(&pool.wake, &pool.lock);
    atomic_fetch_sub(&pool.asleep, 1);
    pthread_mutex_unlock(&pool.lock);
    return job;
}

static void *help(void *number) {
    const int thread = (int)(intptr_t)number;
    for (unsigned job = 0;;) {
        job = wait_for_job(job);
        /* The caller closes the job, then waits until nobody is inside: a job that is still open
         * once this thread is counted stays until it has left. */
        atomic_fetch_add(&pool.inside, 1);
        if (atomic_load(&pool.job) == job && thread < pool.size) pool.work(pool.context, thread);
        atomic_fetch_sub(&pool.inside, 1);
    }
    return NULL;
}

static void hire(int helpers) {
    pthread_t thread;
    while (pool.helpers < helpers &&
           fnn_start_thread(&thread, help, (void *)(intptr_t)(pool.helpers + 1))) {
        pthread_detach(thread);
        pool.helpers++;
    }
}

void fnn_pool_run(int size, fnn_work *work, void *context) {
    if (size == 1 || pthread_mutex_trylock(&pool.in_use) != 0) {
        work(context, 0);
        return;
    }
    hire(size - 1);
    pool.work = work, pool.context = context, pool.size = size;
    if (++pool.last_job == 0) pool.last_job = 1;
    atomic_store(&pool.job, pool.last_job);
    if (atomic_load(&pool.asleep) > 0) {
        /* Whoever was about to sleep does so by now, or has seen the job. */
        pthread_mutex_lock(&pool.lock);
        pthread_mutex_unlock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
    }
    work(context, 0);
    atomic_store(&pool.job, 0);
    for (int spins = 0; atomic_load(&pool.inside) > 0; spins++) fnn_relax(spins);
    pthread_mutex_unlock(&pool.in_use);
}
