"""Who the simulated leads are: their attributes, how these are drawn, and what each is truly worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from convpredict.config.history import SimulatorConfig

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Category:
    """A category attribute: its values, their shares, and their effects.

    ``hazard`` adds to the log hazard of conversion, ``fit`` to the log odds of a high latent fit,
    ``activity`` to the log intensity of the interactions, ``amount`` to the log of a purchase.
    """

    values: tuple[str, ...]
    share: Floats
    hazard: Floats
    fit: Floats
    activity: Floats
    amount: Floats


def _category(rows: dict[str, tuple[float, ...]]) -> Category:
    padded = np.array([(*row, *(0.0,) * (5 - len(row))) for row in rows.values()], dtype=np.float64)
    share, hazard, fit, activity, amount = padded.T
    return Category(tuple(rows), share / share.sum(), hazard, fit, activity, amount)


INDUSTRY = _category(
    {
        "software": (18, 0.0, 0.5, 0.05, 0.2),
        "manufacturing": (16, 0.0, 0.2, 0.0, 0.3),
        "finance": (12, 0.0, 0.3, 0.0, 0.5),
        "health": (11, 0.0, 0.0, 0.0, 0.1),
        "retail": (11, 0.0, -0.2, 0.0, -0.2),
        "logistics": (9, 0.0, 0.1, 0.0, 0.0),
        "education": (8, 0.0, -0.7, 0.1, -0.5),
        "public_sector": (6, 0.0, -0.6, -0.05, 0.2),
        "media": (5, 0.0, -0.2, 0.05, -0.2),
        "energy": (4, 0.0, 0.2, 0.0, 0.4),
    }
)
COMPANY_SIZE = _category(
    {
        "1-10": (22, 0.0, -0.7, 0.0, -0.7),
        "11-50": (28, 0.0, -0.1, 0.0, -0.3),
        "51-250": (26, 0.0, 0.4, 0.0, 0.1),
        "251-1000": (16, 0.0, 0.5, 0.05, 0.5),
        "1001+": (8, 0.0, 0.1, 0.1, 0.9),
    }
)
EMPLOYEES = np.array([[1, 10], [11, 50], [51, 250], [251, 1000], [1001, 20_000]], dtype=np.float64)
COUNTRY = _category(
    {
        "DE": (30, 0.0, 0.2),
        "US": (18, 0.0, 0.1),
        "GB": (12,),
        "FR": (9,),
        "AT": (7, 0.0, 0.2),
        "CH": (6, 0.0, 0.3),
        "NL": (6,),
        "PL": (4, 0.0, -0.2),
        "ES": (3, 0.0, -0.2),
        "IN": (3, 0.0, -0.6),
        "BR": (2, 0.0, -0.6),
    }
)
JOB_ROLE = _category(
    {
        "engineer": (24, 0.0, 0.1, 0.15),
        "manager": (22, 0.1, 0.2),
        "head_of_department": (15, 0.2, 0.4),
        "executive": (9, 0.3, 0.3, -0.2),
        "purchasing": (9, 0.3, 0.3, -0.1),
        "consultant": (10, -0.4, -0.4, 0.1),
        "student": (11, -1.2, -1.4, 0.3),
    }
)
LANDING_PAGE = _category(
    {
        "home": (26,),
        "product_tour": (18, 0.1),
        "pricing": (12, 0.2),
        "whitepaper": (16, -0.1),
        "webinar": (10,),
        "comparison": (8, 0.15),
        "blog": (10, -0.2),
    }
)
OWNER = _category(
    {
        f"owner_{number:02d}": (1.0, effect)
        for number, effect in enumerate(
            (0.15, -0.1, 0.0, 0.2, -0.15, 0.05, -0.05, 0.1, -0.2, 0.0, 0.1, -0.1, 0.05, 0.0, -0.05, 0.0),
            start=1,
        )
    }
)
OWNER_DILIGENCE = np.linspace(0.6, 1.4, len(OWNER.values))[
    [7, 2, 11, 14, 0, 9, 5, 12, 1, 8, 15, 3, 6, 10, 4, 13]
]
CHANNEL = _category(
    {
        "organic_search": (22, 0.1, 0.1),
        "paid_search": (20, 0.0, 0.0),
        "paid_social": (16, -0.5, -0.5),
        "referral": (9, 0.5, 0.5),
        "partner": (7, 0.4, 0.4),
        "event": (8, 0.2, 0.2),
        "content_syndication": (10, -0.7, -0.6),
        "outbound": (8, -0.3, 0.0),
    }
)
CHANNEL_COST_PER_LEAD = np.array([0.0, 95.0, 45.0, 0.0, 60.0, 160.0, 38.0, 0.0])
"""What a channel's lead costs on average, in euros; 0: the channel has no campaigns and no spend."""
CAMPAIGNS: dict[str, dict[str, tuple[float, ...]]] = {
    "paid_search": {"search_brand": (4, 0.35), "search_generic": (5, -0.1), "search_competitor": (2, 0.0)},
    "paid_social": {
        "social_lookalike": (4, 0.0),
        "social_retargeting": (2, 0.35),
        "social_job_title": (3, 0.1),
        "social_video": (3, -0.3),
    },
    "partner": {"partner_referrals": (3, 0.1), "partner_marketplace": (2, -0.15)},
    "event": {"fair_spring": (2, 0.1), "fair_autumn": (2, 0.0), "roadshow": (1, 0.2)},
    "content_syndication": {"syndication_guide": (3, 0.1), "syndication_report": (3, -0.1)},
}
ARMS = ("control", "treatment")
ARM_EFFECT_BY_SIZE = np.array([1.6, 1.3, 1.0, 0.5, -0.2])
"""Effect of the treatment relative to ``split_test_effect``, by company size: large companies dislike it."""
_ARM_EFFECT = ARM_EFFECT_BY_SIZE / float(ARM_EFFECT_BY_SIZE @ COMPANY_SIZE.share)
MISSING_EMPLOYEES, MISSING_ROLE = 0.1, 0.06
BASE_FIT, ARM_SHARE = -0.5, 0.5

_CATEGORIES = {
    "industry": INDUSTRY,
    "company_size": COMPANY_SIZE,
    "country": COUNTRY,
    "job_role": JOB_ROLE,
    "channel": CHANNEL,
    "landing_page": LANDING_PAGE,
    "owner": OWNER,
}


def mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): spreads each input bit over all 64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def lead_streams(seed: int, purpose: int, index: Integers) -> npt.NDArray[np.uint64]:
    """Where each lead's own random stream starts; it depends on the seed, the purpose and the lead alone."""
    key = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(1, np.uint64)
    return mix(key ^ mix(index.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))


def uniforms(streams: npt.NDArray[np.uint64], slot: int) -> Floats:
    """One uniform number in [0, 1) per stream; different slots give independent numbers."""
    offset = np.uint64((0x9E3779B97F4A7C15 * (slot + 1)) % 2**64)
    return (mix(streams + offset) >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Population:
    """Some leads: the codes of their attributes, and what follows from them for the process.

    ``log_hazard`` is without the effect of the split test; ``arm_effect`` is what the treatment adds to it.
    """

    index: Integers
    codes: dict[str, Integers]
    employees: Floats
    campaign: Integers
    arm: Integers
    log_hazard: Floats
    arm_effect: Floats
    fit_probability: Floats
    activity: Floats
    diligence: Floats
    log_amount: Floats


def campaign_names() -> list[str]:
    """All campaigns, in the order of their codes."""
    return [name for campaigns in CAMPAIGNS.values() for name in campaigns]


def campaign_channel() -> list[str]:
    """The channel of each campaign, in the order of their codes."""
    return [channel for channel, campaigns in CAMPAIGNS.items() for _ in campaigns]


def campaign_share() -> Floats:
    """Each campaign's share of its channel's leads, in the order of the codes."""
    shares = [np.array([row[0] for row in campaigns.values()]) for campaigns in CAMPAIGNS.values()]
    return np.concatenate([share / share.sum() for share in shares])


def campaign_effect() -> Floats:
    """What each campaign adds to the log hazard of conversion, beside its channel."""
    return np.array([row[1] for campaigns in CAMPAIGNS.values() for row in campaigns.values()])


def arm_effects(config: SimulatorConfig) -> Floats:
    """What the treatment adds to the log hazard, by company size; the mean is ``split_test_effect``."""
    return np.asarray(config.split_test_effect * _ARM_EFFECT, dtype=np.float64)


def _draw(share: Floats, uniform: Floats) -> Integers:
    return np.minimum(np.searchsorted(np.cumsum(share), uniform, side="right"), len(share) - 1).astype(
        np.int64
    )


def _draw_campaigns(channel: Integers, uniform: Floats) -> Integers:
    of_channel, share = np.array(campaign_channel()), campaign_share()
    campaign = np.full(len(channel), -1, dtype=np.int64)
    for code, name in enumerate(CHANNEL.values):
        members = np.flatnonzero(of_channel == name)
        if len(members):
            rows = channel == code
            campaign[rows] = members[_draw(share[members], uniform[rows])]
    return campaign


def _sum_effects(codes: dict[str, Integers]) -> Floats:
    """Summed effects on hazard, fit, activity and amount [4, lead]; a missing value has none."""
    total = np.zeros((4, len(next(iter(codes.values())))))
    for name, category in _CATEGORIES.items():
        effects = np.stack([category.hazard, category.fit, category.activity, category.amount])
        total += np.where(codes[name] >= 0, effects[:, codes[name]], 0.0)
    return total


def draw_population(config: SimulatorConfig, index: Integers) -> Population:
    """Draw the attributes of the leads with these positions (0-based); each lead's depend on itself alone."""
    streams = lead_streams(config.seed, 1, index)
    codes = {
        name: _draw(category.share, uniforms(streams, slot))
        for slot, (name, category) in enumerate(_CATEGORIES.items())
    }
    codes["job_role"][uniforms(streams, 23) < MISSING_ROLE] = -1
    hazard, fit, activity, amount = _sum_effects(codes)
    campaign = _draw_campaigns(codes["channel"], uniforms(streams, 20))
    hazard += np.where(campaign >= 0, campaign_effect()[campaign], 0.0)
    low, high = EMPLOYEES[codes["company_size"]].T
    employees = np.floor(low * (high / low) ** uniforms(streams, 21) + 0.5)
    employees[uniforms(streams, 22) < MISSING_EMPLOYEES] = np.nan
    return Population(
        index=index,
        codes=codes,
        employees=employees,
        campaign=campaign,
        arm=(uniforms(streams, 24) < ARM_SHARE).astype(np.int64),
        log_hazard=hazard,
        arm_effect=arm_effects(config)[codes["company_size"]],
        fit_probability=1.0 / (1.0 + np.exp(-BASE_FIT - fit)),
        activity=np.exp(activity),
        diligence=OWNER_DILIGENCE[codes["owner"]],
        log_amount=amount,
    )


def attribute_columns(population: Population) -> dict[str, pa.Array]:
    """The attributes as Arrow columns, as the leads table shows them."""
    columns: dict[str, pa.Array] = {
        name: dictionary(population.codes[name], category.values) for name, category in _CATEGORIES.items()
    }
    columns["campaign"] = dictionary(population.campaign, campaign_names())
    columns["employees"] = pa.array(population.employees, mask=np.isnan(population.employees))
    columns["split_arm"] = dictionary(population.arm, ARMS)
    return columns


def dictionary(codes: Integers, values: tuple[str, ...] | list[str]) -> pa.DictionaryArray:
    """A dictionary-coded text column; a negative code is missing."""
    indices = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(values), pa.string()))
