# %% [markdown]
"""
# Lab 0: Orientation

Fifteen minutes to learn your way around before anything is at stake: what a notebook is, what a check tells you, where
help comes from, and how to start over. The two exercises are tiny. They earn XP and no points; they are your first
quest.

**You will be able to**

- run cells, and say what the kernel remembers;
- read a check's card, also one that says no;
- ask for a hint, put a cell back as it was, and confirm your work.

**Time** 15 minutes.

**You need to know** what a Python function is. Nothing of PyTorch yet.
"""

# %% [markdown]
"""
## A notebook is a conversation

Below is a *cell*. Click into it and press **Shift+Enter**: the process behind the notebook, the *kernel*, runs it, and
the cursor moves on. The first cell of every lab ties the notebook to its unit. Run it now, and the one after it.
"""

# %%
from grading import unit

check, hint, reveal = unit("phase1/lab0")

# %%
import torch
from torch import Tensor

# %% [markdown]
"""
The kernel remembers what ran, in the order in which it ran, and not what stands on the page. Run the next cell once,
then the one below it three times.
"""

# %%
runs = 0

# %% tags=["demo"]
runs = runs + 1
print(f"this cell has run {runs} times")

# %% [markdown]
"""
The number in brackets on the left, `[5]`, counts every run. A cell that you have edited and not run again has changed
on the page only; one that you have deleted is still in the kernel's memory. When a notebook behaves as if it
remembered a ghost, use **Kernel → Restart Kernel and Run All Cells**: it starts from an empty memory, from the top.
"""

# %% [markdown]
r"""
## Exercise 1 · A function to fill in

Each exercise states a task, with the formula that decides what is right, and gives you a *stub*: a function whose body
is missing. The docstring says what comes in and what goes out. Replace the line `raise NotImplementedError` by your
code.

**Task.** Convert temperatures from Fahrenheit to Celsius:

$$C = (F - 32) \cdot \frac{5}{9}$$

A tensor is a block of numbers; arithmetic on it is done for all of them at once, so no loop is needed. The result is
a new tensor: the one that came in stays as it was.
"""


# %%
def to_celsius(fahrenheit: Tensor) -> Tensor:
    """Degrees Celsius for degrees Fahrenheit: a floating-point tensor of any shape, same shape and dtype out."""
    ### BEGIN SOLUTION
    return (fahrenheit - 32) * 5 / 9
    ### END SOLUTION


# %% tags=["demo"]
to_celsius(torch.tensor([32.0, 212.0, -40.0]))

# %% [markdown]
"""
**What you should see.** `tensor([  0., 100., -40.])`. As long as the stub is a stub, the cell says that `to_celsius`
is not written yet, and nothing worse happens.

Run the cell with your code, then check it:
"""

# %%
check("to_celsius")

# %% [markdown] tags=["explanation"]
"""
`fahrenheit - 32` subtracts 32 from every element and makes a new tensor. The parentheses matter: without them Python
would multiply first.
"""

# %% [markdown]
"""
A green card with a tick for each requirement means *passed here*. The result is in your record already.

## A check that fails

Most of your checks will fail at first. That is what they are for, and it costs nothing, so look at one in peace. The
next cell hands the check of exercise 2 an answer that is **wrong on purpose**. The task there: for a table of
temperatures, with a row for each day and a column for each hour, how far did the temperature move on each day?
"""


# %% tags=["demo"]
def hasty(readings: Tensor) -> Tensor:
    return readings.max() - readings.min()


check("daily_range", wrong_on_purpose=hasty)

# %% [markdown]
"""
**What you should see.** A red card, and a last line which says that this failure is expected. Read it from the top:

1. **Each requirement** has a line of its own, with ✓ or ✗. The points are shared among them.
2. **The evidence** stands below a ✗: what was expected, what came, and where they differ. Here the *shape* is wrong:
   one number came where one for each day was expected.
3. **Likely cause** appears when your results are those of a mistake that we know. When in doubt, it stays silent.
4. **Next** says what to do now.

Every check draws its inputs at random, so there is nothing to guess. Any answer that does what the text says passes,
however it is written.
"""

# %% [markdown]
"""
## Exercise 2 · Now rightly

**Task.** For `readings` with a row for each day and a column for each hour, return the highest minus the lowest
reading **of each day**.

If you get stuck, here or anywhere: type `hint("daily_range")` into the empty cell below the stub and run it. There are
three hints for every exercise, each says more than the one before it, and they are free. After the third,
`reveal("daily_range")` shows our answer; you may go on, but that exercise earns nothing any more.
"""


# %%
def daily_range(readings: Tensor) -> Tensor:
    """Highest minus lowest reading of each day: `(days, hours)` in, `(days,)` out. There is at least one hour."""
    ### BEGIN SOLUTION
    return readings.amax(dim=1) - readings.amin(dim=1)
    ### END SOLUTION


# %% tags=["demo"]
# A cell for you: a hint, a print, whatever helps.

# %% tags=["demo"]
week = torch.tensor([[-3.0, 1.0, 4.0], [2.0, 2.0, 2.0]])
daily_range(week)

# %% [markdown]
"""
**What you should see.** `tensor([7., 0.])`: from −3 to 4 on the first day, and no change on the second.
"""

# %%
check("daily_range")

# %% [markdown] tags=["explanation"]
"""
`dim=1` names the axis that disappears: the hours. What is left is one number for each day. `readings.max()` without an
axis looks at the whole table, which was the hasty answer. `amax` returns the values alone; `max(dim=1)` returns values
and positions, and you would have to take `.values`.
"""

# %% [markdown]
"""
## Common pitfalls

<!-- pitfalls -->
"""

# %% [markdown]
"""
## Starting over, and making it count

You work on a copy of your own, in `workspace/`. Nothing you do here can break the original. Open a terminal with
**File → New → Terminal** (on Windows without `make`, activate `.venv` there first; elsewhere, too, if `solo` is not
found) and try:

| type | to |
| --- | --- |
| `solo check lab0` | run the whole notebook afresh, and **confirm** what passes |
| `solo reset lab0 --exercise daily_range` | get the stub back; what you had is kept as a dated backup |
| `solo reset lab0` | start the whole notebook over, with a backup as well |
| `solo status` | see your rank, your progress, and the next quest |

Save first (**Ctrl+S**): the terminal sees the file, not the page. Why *confirm*? A check in the notebook trusts the
kernel's memory, ghosts included. `solo check` starts with an empty one, and what passes there counts towards your
rank.

**When something hangs**, stop the cell with the ■ button; if that does not help, **Kernel → Restart Kernel**. Your
text is safe.
"""

# %% [markdown]
"""
## Recap

A notebook is a page and a memory. A check says what is missing and often why. Hints are free, starting over is safe,
and `solo check` makes it count.

**Next** comes the theory brief *Tensors and autograd*, and with it Lab 1, where the numbers begin to remember where
they came from.
"""
