"""The threads of native code: started for one group of loops, and gone when it is done.

There is no pool, so that nothing need be made anew after a fork; to start a thread takes 10 us or so.
"""

__all__ = ["ATTRIBUTES", "threads"]

ATTRIBUTES = """
attributes #0 = { nounwind willreturn memory(none) }
attributes #1 = { nounwind noinline }"""

_WORK = """
define internal ptr @work(ptr %job) #1 {
entry:
  %count.at = getelementptr i64, ptr %job, i64 1
  %count = load i64, ptr %count.at
  %piece.at = getelementptr i64, ptr %job, i64 2
  %piece = load ptr, ptr %piece.at
  %frame.at = getelementptr i64, ptr %job, i64 3
  %frame = load ptr, ptr %frame.at
  br label %next
next:
  %i = atomicrmw add ptr %job, i64 1 monotonic
  %more = icmp slt i64 %i, %count
  br i1 %more, label %run, label %done
run:
  call void %piece(ptr %frame, i64 %i)
  br label %next
done:
  ret ptr null
}

declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
define internal void @parallel(ptr %piece, ptr %frame, i64 %count) #1 {
entry:
  %job = alloca [4 x i64], align 8
  %ids = alloca [1024 x i64], align 8
  store i64 0, ptr %job
  %count.at = getelementptr i64, ptr %job, i64 1
  store i64 %count, ptr %count.at
  %piece.at = getelementptr i64, ptr %job, i64 2
  store ptr %piece, ptr %piece.at
  %frame.at = getelementptr i64, ptr %job, i64 3
  store ptr %frame, ptr %frame.at
  %state = call ptr @PyEval_SaveThread()
  START
  call ptr @work(ptr %job)
  JOIN
  call void @PyEval_RestoreThread(ptr %state)
  ret void
}
"""

_START = """%allowed = load i64, ptr inttoptr (i64 ADDRESS to ptr)
  %fewer = icmp slt i64 %allowed, %count
  %wanted = select i1 %fewer, i64 %allowed, i64 %count
  br label %starting
starting:
  %started = phi i64 [ 0, %entry ], [ %one.more, %start ]
  %one.more = add i64 %started, 1
  %enough = icmp sge i64 %one.more, %wanted
  br i1 %enough, label %begin, label %start
start:
  %id = getelementptr i64, ptr %ids, i64 %started
  %problem = call i32 @pthread_create(ptr %id, ptr null, ptr @work, ptr %job)
  %fine = icmp eq i32 %problem, 0
  br i1 %fine, label %starting, label %begin
begin:"""

_JOIN = """br label %joining
joining:
  %joined = phi i64 [ 0, %begin ], [ %one.joined, %join ]
  %left = icmp slt i64 %joined, %started
  br i1 %left, label %join, label %finished
join:
  %which = getelementptr i64, ptr %ids, i64 %joined
  %thread = load i64, ptr %which
  call i32 @pthread_join(i64 %thread, ptr null)
  %one.joined = add i64 %joined, 1
  br label %joining
finished:"""

_SYSTEM = """
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
"""


def threads(address: int, has_threads: bool) -> str:
    """The functions that run a group's pieces, by as many threads as the number at the address says."""
    if not has_threads:
        return _WORK.replace("START", "").replace("JOIN", "")
    return _WORK.replace("START", _START.replace("ADDRESS", str(address))).replace("JOIN", _JOIN) + _SYSTEM
